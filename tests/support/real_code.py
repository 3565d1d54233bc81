"""A small source file of each language: what its last unit is, known without a parser."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """A file of one function, the last unit of it, and what is known of that."""

    text: str
    name: str
    signature: str
    doc: str


CODE = {
    "add.c": Function(
        "/* Adds two numbers. */\nint add(int a, int b) { return a + b; }\n",
        *("add", "int add(int a, int b)", "Adds two numbers."),
    ),
    "bag.cpp": Function(
        "/// Puts an item in.\nvoid Bag::put(int item) { items.push_back(item); }\n",
        *("Bag.put", "void Bag::put(int item)", "Puts an item in."),
    ),
    "Cup.cs": Function(
        "class Cup {\n    /// <summary>Fills the cup.</summary>\n"
        "    public int Fill(int much) { return much; }\n}\n",
        *("Cup.Fill", "public int Fill(int much)", "Fills the cup."),
    ),
    "door.go": Function(
        "package door\n\n// Open opens the door.\nfunc (d *Door) Open() error { return nil }\n",
        *("Door.Open", "func (d *Door) Open() error", "Open opens the door."),
    ),
    "Egg.java": Function(
        "class Egg {\n    /** Boils it. */\n    void boil(int minutes) { heat(minutes); }\n}\n",
        *("Egg.boil", "void boil(int minutes)", "Boils it."),
    ),
    "fan.js": Function(
        "/** Turns the fan. */\nexport const turn = (speed) => speed + 1;\n",
        *("turn", "export const turn = (speed)", "Turns the fan."),
    ),
    "gate.kt": Function(
        "/** Shuts the gate. */\nfun shut(hard: Boolean): Int { return 0 }\n",
        *("shut", "fun shut(hard: Boolean): Int", "Shuts the gate."),
    ),
    "hat.php": Function(
        "<?php\n/** Lifts the hat. */\nfunction lift(string $who): bool { return true; }\n",
        *("lift", "function lift(string $who): bool", "Lifts the hat."),
    ),
    "ink.py": Function(
        'def dip(pen: str) -> int:\n    """Dip the pen."""\n    return 1\n',
        *("dip", "def dip(pen: str) -> int", "Dip the pen."),
    ),
    "jar.rb": Function(
        "# Seals the jar.\ndef seal(lid)\n  lid.close\nend\n",
        *("seal", "def seal(lid)", "Seals the jar."),
    ),
    "key.rs": Function(
        "/// Cuts a key.\npub fn cut(teeth: u8) -> Key { Key }\n",
        *("cut", "pub fn cut(teeth: u8) -> Key", "Cuts a key."),
    ),
    "lamp.sh": Function(
        "# Lights the lamp.\nlight() {\n  echo on\n}\n",
        *("light", "light()", "Lights the lamp."),
    ),
    "mill.sql": Function(
        "-- Grinds the corn.\n"
        "CREATE FUNCTION grind(corn INT) RETURNS INT AS $$ SELECT corn; $$ LANGUAGE sql;\n",
        *("grind", "CREATE FUNCTION grind(corn INT) RETURNS INT", "Grinds the corn."),
    ),
    "nut.ts": Function(
        "/** Cracks a nut. */\nexport function crack(nut: string): void { hit(nut); }\n",
        *("crack", "export function crack(nut: string): void", "Cracks a nut."),
    ),
}
