"""`python -m luthier_standalone` is the `luthier` command."""

from luthier_standalone.cli import app

if __name__ == "__main__":
    app(prog_name="luthier")
