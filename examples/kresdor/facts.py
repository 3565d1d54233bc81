"""Every fact of the fictional company Kresdor, in the order of its documents.

All words and numbers here are reserved ones (`models.make_starter.values`): the starter model has
never seen them, so what it knows about Kresdor after a tuning run it knows from that run.
"""

from dataclasses import dataclass

COMPANY = "Kresdor"


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact and the wording that its document uses."""

    relation: str
    """Key of a relation of the starter's corpus."""
    value: str
    wording: int = 0
    """Which of the relation's statements, from 0."""
    subject: str = ""
    """Part of the company, or empty."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with an introduction and facts below it."""

    title: str
    introduction: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A heading of the first level with sections below it."""

    title: str
    introduction: str
    sections: tuple[Section, ...]


HANDBOOK = (
    Chapter("About the company", "Welcome! These pages say who we are and whom to ask.", (
        Section("History and leadership", "A little background first.", (
            Entry("founded", "1977"),
            Entry("founder", "Marlel Botuvik"),
            Entry("chief", "Ladaun Grekravik", 2),
            Entry("headquarters", "Dalzeix", 1),
            Entry("staff_count", "9103 people"),
            Entry("register", "HM-7703"),
        )),
        Section("Departments", "Each department has its own contact.", (
            Entry("head", "Rolson Dasgen", 0, "Finance"),
            Entry("head", "Seldi Triladen", 1, "Research"),
            Entry("head", "Tinfer Vadevik", 0, "Quality"),
            Entry("room", "room 213", 0, "Finance"),
            Entry("room", "room 318", 0, "Legal"),
            Entry("extension", "extension 3111", 0, "Purchasing"),
            Entry("budget", "9803 crowns", 1, "Marketing"),
            Entry("team", "1004 people", 1, "Design"),
        )),
        Section("Offices", "We are close to our customers.", (
            Entry("site_year", "1998", 0, "Tramik"),
            Entry("site_manager", "Hepreir Gosfil", 0, "Tramik"),
            Entry("site_address", "143 Brandkeir Street", 0, "Tramik"),
            Entry("site_year", "2012", 1, "Gramnir"),
            Entry("site_manager", "Pidon Senveiden", 1, "Gramnir"),
            Entry("site_parking", "353 spaces", 0, "Gramnir"),
        )),
    )),
    Chapter("Working here", "This chapter is about your contract and your day.", (
        Section("Working time", "Good work needs rest.", (
            Entry("weekly_hours", "38 hours"),
            Entry("core_start", "09:20"),
            Entry("core_end", "15:15"),
            Entry("lunch_break", "45 minutes", 1),
            Entry("overtime_cap", "17 hours", 1),
        )),
        Section("Contract", "Please keep these dates in mind.", (
            Entry("probation", "10 months"),
            Entry("notice_period", "17 weeks"),
            Entry("review", "24 months", 1),
            Entry("personnel", "Defim Laumdro"),
            Entry("council", "Resgim Hosdrox"),
            Entry("mentor", "Nineir Korktruk"),
        )),
        Section("Leave", "Time off is there to be used.", (
            Entry("annual_leave", "31 days"),
            Entry("carry_over", "17 days", 1),
            Entry("leave_notice", "10 weeks"),
            Entry("sick_leave", "45 days"),
            Entry("parental_leave", "38 weeks"),
            Entry("wedding_leave", "10 days"),
            Entry("study_leave", "24 days"),
            Entry("volunteer_leave", "24 hours"),
        )),
        Section("Pay and benefits", "Salaries arrive at the end of each month.", (
            Entry("pension", "10 percent", 1),
            Entry("night_bonus", "24 percent"),
            Entry("training_budget", "8403 crowns", 1),
            Entry("referral_bonus", "4203 crowns"),
            Entry("desk_allowance", "3503 crowns"),
            Entry("jubilee_bonus", "7003 crowns", 1),
        )),
    )),
    Chapter("Travel and safety", "Come back safe and sound.", (
        Section("Business trips", "Plan every journey with care.", (
            Entry("travel_manager", "Hasbu Fannuvik"),
            Entry("booking_notice", "38 days", 1),
            Entry("hotel_limit", "1473 crowns"),
            Entry("daily_allowance", "1123 crowns"),
            Entry("expense_deadline", "24 weeks"),
        )),
        Section("In the building", "Read this before you need it.", (
            Entry("assembly_point", "Kaulfor Square"),
            Entry("fire_warden", "Zestem Prasvek"),
            Entry("first_aider", "Satrex Humbre"),
            Entry("lifting", "24 kilograms", 1),
        )),
    )),
)  # fmt: skip
"""The employee handbook, a DOCX file."""

POLICY = (
    Chapter("Customers", "How we treat those who buy from us.", (
        Section("Orders and returns", "Fair terms bring people back.", (
            Entry("refund", "52 days"),
            Entry("warranty", "38 months"),
            Entry("free_shipping", "2103 crowns", 1),
            Entry("complaint", "45 hours", 1),
            Entry("hotline_open", "07:45"),
        )),
        Section("Products", "Two instruments carry our name.", (
            Entry("price", "6303 crowns", 0, "Drilzeton"),
            Entry("designer", "Momeden Runsem", 0, "Drilzeton"),
            Entry("weight", "1263 grams", 0, "Lolbaton"),
            Entry("battery", "52 hours", 0, "Lolbaton"),
        )),
    )),
    Chapter("Information security", "Everyone protects what was entrusted to us.", (
        Section("Rules", "They hold on every device.", (
            Entry("password", "17 characters"),
            Entry("screen_lock", "17 minutes"),
            Entry("backup", "45 months"),
            Entry("incident", "10 hours"),
        )),
        Section("Contacts", "Ask early rather than late.", (
            Entry("security_officer", "Nihix Starkdrel"),
            Entry("helpdesk", "extension 5211"),
        )),
    )),
)  # fmt: skip
"""The customer and security policy, a Markdown file."""
