"""A labelled sample: sentences with personal data, and look-alikes without any.

IBANs and most national numbers are the examples that documentation and registries use; look-alikes
are what technical and commercial texts are full of. Some texts are unfair on purpose: addresses
spelt out, local phone numbers without a hint, part numbers in the shape of a social security
number. The sample is our own, so its figures compare versions; they are no promise for a corpus.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

E_MAIL, PHONE, IBAN, NATIONAL_ID = "e-mail", "phone", "IBAN", "national id"

_EMAILS = (
    "anna.schmidt@posteo.de", "j.doe@acme-pumps.com", "maria_lopez99@gmail.com",
    "o'neil@dublin.ie", "info@velkis.org", "k.yamada@mail.osaka-u.ac.jp", "x@y.io",
    "first.last+news@corp.co.uk", "sales-team@north-west.com.au", "12345@qq.com",
    "pierre.dupont@orange.fr", "b.jensen@dr.dk", "support@tool.dev", "a.b.c.d@uni-bonn.de",
    "Hans.Meier@Firma.CH", "li.wei@163.com", "nurse@clinic.health", "ceo@startup.ai",
    "per@sjö.se", "anna (at) firma (dot) de", "j dot doe at acme dot com",
)  # fmt: skip
_EMAIL_TEXTS = (
    "Write to {} for a copy of the manual.",
    "Contact: {}.",
    "<a href=\"mailto:{}\">us</a>",
)  # fmt: skip

_PHONES = (
    "+49 30 901820", "+1 212-736-5000", "+44 20 7219 3000", "+33 1 42 68 53 00",
    "+34 915 22 30 00", "+39 06 6982", "+31 20 794 0800", "+48 22 694 75 00", "+46 8 786 40 00",
    "+41 31 322 21 11", "+43 1 53115 0", "+32 2 501 02 11", "+61 2 6277 7111",
    "+81 3-3581-5111", "+86 10 6307 0950", "+91 11 2301 4104", "+55 11 3150-5000",
    "0049 30 901820", "0033 1 42 68 53 00", "(212) 736-5000", "(202) 456-1414",
    "+4915112345678", "+447911123456", "+1 (415) 555-2671",
)  # fmt: skip
_PHONE_TEXTS = ("You reach the office at {}.", "Our number: {}", "Anna, {}, night shift.")
_LOCAL_PHONES = (
    "Tel. 030 901820", "Phone: 212-736-5000", "Telefon 089 2180-0", "Tél. 01 42 68 53 00",
    "Call 020 7219 3000 before noon.", "Mobile 07911 123456", "Handy: 0151 12345678",
    "Fax (030) 9018-3000", "Teléfono 915 22 30 00", "phone number is 202-456-1414",
    "Cell: 415.555.2671", "tel: 06 6982", "Telefon: 08-786 40 00", "Ruf 030 901820",
    "Reach Bob on 020 7219 3000.", "Durchwahl 2180-3317",
)  # fmt: skip

_IBANS = (
    "AD1200012030200359100100", "AE070331234567890123456", "AL47212110090000000235698741",
    "AT611904300234573201", "BA391290079401028494", "BE68539007547034", "BG80BNBG96611020345678",
    "CH9300762011623852957", "CR05015202001026284066", "CY17002001280000001200527600",
    "CZ6508000000192000145399", "DE89370400440532013000", "DK5000400440116243",
    "EE382200221020145685", "ES9121000418450200051332", "FI2112345600000785",
    "FO6264600001631634", "FR1420041010050500013M02606", "GB29NWBK60161331926819",
    "GE29NB0000000101904917", "GI75NWBK000000007099453", "GR1601101250000000012300695",
    "HR1210010051863000160", "HU42117730161111101800000000", "IE29AIBK93115212345678",
    "IL620108000000099999999", "IS140159260076545510730339", "IT60X0542811101000000123456",
    "LI21088100002324013AA", "LT121000011101001000", "LU280019400644750000",
    "LV80BANK0000435195001", "MC5811222000010123456789030", "MT84MALT011000012345MTLCAST001S",
    "NL91ABNA0417164300", "NO9386011117947", "PL61109010140000071219812874",
    "PT50000201231234567890154", "RO49AAAA1B31007593840000", "SE4550000000058398257466",
    "SI56263300012039086", "SK3112000000198742637541", "SM86U0322509800000000270100",
    "TR330006100519786457841326",
)  # fmt: skip
_IBAN_TEXTS = ("IBAN: {}", "Please pay to {} within ten days.")

_IDS = (
    "SSN 536-90-4399", "Her social security number is 536904399.", "the number 212-45-6789",
    "Employee 401-22-8841 signed.", "SSN: 123-45-6789", "ssn 512 44 9081",
    "NI number AB 12 34 56 C", "His NINO is JG103759A.", "National Insurance: CE123456D",
    "Steuer-ID 86095742719", "Steuerliche IdNr.: 65 929 970 489", "Steueridentifikationsnummer "
    "57549285017", "Tax ID 25768131411", "IdNr. 47036892816", "the id is 86095742719",
    "NIR 2 55 08 14 168 025 38", "numéro 295109912611193", "sécurité sociale: 184127645108946",
    "253072B07300470", "DNI 12345678Z", "con DNI 54362315-K", "NIE X-1234567-L", "NIE: X2482300W",
    "NIE Z8327649K", "DNI 00000000T", "titular 99999999R", "CF RSSMRA85T10A562S",
    "codice fiscale RCCMNL83S18D969H", "MRTMTT25D09F205Z", "C.F.: VRDGPP13R10B293P",
    "BSN 111222333", "burgerservicenummer: 123456782", "BSN: 1112.22.333", "sofinummer 111222333",
    "PESEL 44051401359", "PESEL: 92071314764", "nr 44051401359", "personnummer 811218-9876",
    "19670919-9530", "640823-3234", "880320-0016", "18 år, 19811218-9876",
    "rijksregisternummer 85.07.30-033.28", "93.05.18-223.61", "HETU 131052-308T",
    "henkilötunnus 131052-308T", "CPF 390.533.447-05", "111.444.777-35", "CPF: 529.982.247-25",
    "fødselsnummer 15108695088", "personnr. 151086 95088",
)  # fmt: skip

_LOOK_ALIKES = (
    "The build is 1.2.3-beta.4 of 2024-03-17.", "Room 2.14.003 opens at 08:45.",
    "See ISO 9001:2015 and DIN EN 60529.", "RFC 2822, section 3.4.1, page 17",
    "@app.route('/users') def users():", "icon@2x.png and icon@3x.png", "git clone "
    "git@github.com:acme/pumps.git", "npm install @scope/package@4.17.21", "user@localhost",
    "Mail user@example.com to try it.", "ssh root@10.0.0.1", "Follow @anna on the network.",
    "@Override public void run() {}", "jdbc:oracle:thin:@db:1521:orcl", "scipy@1.11.4",
    "postgres://app@db.internal.example.org/main", "torque 12 N·m @ 3000 min", "a@b",
    "SELECT @total := @total + 1;", "foo@bar.test", "Meet @ 5.30pm.", "price @ 3.50 each",
    "1 234 567,89 EUR", "USD 12,345,678.90", "$1,299.00", "¥ 120 000 000", "0.0000012345 m",
    "3.14159265358979323846", "6.02214076e23", "299 792 458 m/s", "-273.15 °C", "1/2/3/4/5/6/7",
    "0x7fffffffdc10", "U+1F600", "#ff8800", "rgb(120, 130, 140)", "13:45:07.123456",
    "2024-03-17T13:45:07+01:00", "20240317134507", "17.03.2024 13:45:07", "1999-2024",
    "12/31/2024 23:59", "Q3 2023: 1.204.551 units", "Section 12.4.7.3.2", "§ 23 Abs. 4 Nr. 1",
    "Part 7 of 12: pages 1203 to 1217", "Mo-Fr 08:00-18:00, Sa 09:00-13:00", "4711-0815",
    "lat 52.520008, lon 13.404954", "48°51'29.6\"N 2°17'40.2\"E", "M8x1.25-6g", "3-0 6-4 7-6(5)",
    "1 2 3 4 5 6 7 8 9 10 11 12", "1,2,3,4,5,6,7,8,9", "1001 1010 0111 1100", "5 000 000 000",
    "10.1000/182", "doi:10.1145/3442188.3445922", "arXiv:2107.06955", "CVE-2021-44228",
    "AA 12 34 56", "GB 12 34 56 A", "QQ 12 34 56 C", "SSN 000-12-3456", "ssn 666-12-3456",
    "SSN: 912-34-5678", "123-00-6789", "123-45-0000", "078-05-1120", "DNI 12345678A",
    "NIE X1234567A", "BSN 111222334", "PESEL 44051401358", "PESEL 44133101359",
    "Steuer-ID 86095742718", "Steuer-ID 11111111111", "CF RSSMRA85T10A562T", "811218-9875",
    "811318-9876", "85.07.30-033.29", "131052-308U", "390.533.447-06", "111.111.111-11",
    "fødselsnummer 15108695089", "255081416802539", "IBAN DE89370400440532013001",
    "IBAN GB29NWBK6016133192681", "DE89 3704 0044 0532 0130 01", "XX89370400440532013000",
    "+00 000 0000", "+1 000 000 0000", "+999 123 456 789", "0000 0000000", "Tel. 4711",
    "(123) 456", "(001) 000-0000", "call 911", "phone 12", "fax: none", "call f(1234567890123456)",
    "part number 536-90-4398", "gasket 211-40-7733", "drawing 811218-9876",
)  # fmt: skip
_NUMBERED = (
    "Order {d8} was shipped on 2024-0{d1}-1{d1}.", "Invoice no. {d10} is due.",
    "Ticket #{d6}: pump {d4}-{d4} leaks.", "Version {d1}.{d2}.{d4}.{d3}",
    "host 10.{d2}.{d1}.{d2} port {d4}", "2001:db8:{h4}:{h4}::{h4}:{h4}", "MAC {h2}:{h2}:{h2}:{h2}",
    "ISBN 978-3-16-{d6}-{d1}", "ISBN 0-{d3}-{d5}-{d1}", "EAN {d13}", "sha1 {h40}", "commit {h7}",
    "id {uuid}", "total {d3},{d3}.{d2} EUR", "part {A2}-{d4}-{d3}", "serial {A3}{d9}",
    "batch {d9} of lot {d5}", "at {d2}:{d2}:{d2}.{d6} in thread {d5}", "VIN WVW{A3}{d2}{A1}{d6}",
    "tracking 1Z{A3}{d10}", "GPS {d2}.{d6}, {d2}.{d6}", "offset {d9} length {d7}",
    "pid {d5}, {d10} bytes, {d7} rows", "card ending {d4}, auth {d6}", "{d4} {d4} {d4} {d4}",
    "unix time {d10}", "registration {A1}{d8}", "HS code {d4}.{d2}.{d4}", "meter {d11} reads {d6}",
    "customer {d9}", "plate {A2}{d2} {A3}", "NSN {d4}-{d2}-{d3}-{d4}",
)  # fmt: skip


def positives() -> list[tuple[str, str]]:
    """Return texts with personal data, each with its kind."""
    found = [(text.format(one), E_MAIL) for one in _EMAILS for text in _EMAIL_TEXTS]
    found += [(text.format(one), PHONE) for one in _PHONES for text in _PHONE_TEXTS]
    found += [(text, PHONE) for text in _LOCAL_PHONES]
    found += [(_IBAN_TEXTS[0].format(one), IBAN) for one in _IBANS]
    found += [(_IBAN_TEXTS[1].format(_in_fours(one)), IBAN) for one in _IBANS]
    found += [(text, NATIONAL_ID) for text in _IDS]
    return found


def look_alikes() -> list[str]:
    """Return texts without personal data."""
    return [*_LOOK_ALIKES, *_numbered(random.Random(7))]


def _numbered(source: random.Random) -> Iterator[str]:
    for text in _NUMBERED:
        for _ in range(12):
            parts = {f"d{n}": _draw(source, "0123456789", n) for n in range(1, 14)}
            parts |= {f"h{n}": _draw(source, "0123456789abcdef", n) for n in (2, 4, 7, 40)}
            parts |= {f"A{n}": _draw(source, "ABCDEFGHJKLMNPRSTUVWXYZ", n) for n in (1, 2, 3)}
            yield text.format(**parts, uuid=uuid.UUID(int=source.getrandbits(128)))


def _draw(source: random.Random, alphabet: str, length: int) -> str:
    return "".join(source.choice(alphabet) for _ in range(length))


def _in_fours(text: str) -> str:
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
