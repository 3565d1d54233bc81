"""The commonest function words of a few languages: what says nothing about a text's subject.

Short on purpose. Published lists of a thousand words and more hold `year`, `system` and `member`,
which are subjects in a company's documents.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
"""A word or number; hyphens and apostrophes inside belong to it."""
_LOOKED_AT = 2000
"""Characters that tell a text's language."""

_LISTS = {
    "en": """a about above after again against all also am an and any are as at be because been
        before being below between both but by can cannot could did do does doing down during each
        every few for from further had has have having he her here hers herself him himself his how
        i if in into is it its itself just many may me might more most much must my myself no nor
        not now of off on once only or other our ours ourselves out over own same shall she should
        so some such than that the their theirs them themselves then there these they this those
        through to too under until up upon us very was we were what when where which while who whom
        why will with within without would you your yours yourself yourselves don't isn't doesn't
        can't it's""",
    "de": """aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim
        bin bis bist da damit dann das dass dein dem den denn der des dich die dies diese diesem
        diesen dieser dieses doch dort du durch ein eine einem einen einer eines er es etwas euch
        für gegen hat hatte haben hier ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist
        ja jede jedem jeden jeder jedes kann kein keine keinem keinen keiner können man mehr mein
        mich mir mit muss müssen nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem
        seinen seiner sich sie sind so soll sollen sondern sowie über um und uns unser unsere unter
        viel vom von vor war waren warum was weil welche welcher wenn wer werden wie wieder will
        wir wird wo wurde wurden zu zum zur zwischen""",
    "fr": """a à ai ainsi après au aucun aussi autre aux avant avec avez avoir c'est car ce ceci
        cela celle celui ces cet cette ceux chaque chez comme contre d'un d'une dans de depuis des
        deux doit doivent donc dont du elle elles en encore entre est et été être eu fait faire
        font ici il ils j'ai je l'on la le les leur leurs lors lui mais me même mes moi moins mon
        ne ni non nos notre nous on ont ou où par pas pendant peu peut peuvent plus pour pourquoi
        qu'il quand que quel quelle quelles quels qui quoi sa sans se sera ses si soit son sont
        sous sur ta te tes ton tous tout toute toutes très tu un une vers vos votre vous y""",
    "es": """a al algo algunos ante antes así aunque cada como con contra cual cuando de del desde
        donde dos durante e el él ella ellas ellos en entre era es esa ese eso esta está están este
        esto estos fue fueron ha han hasta hay la las le les lo los más me mi mientras mis mucho
        muy nada ni no nos nosotros nuestra nuestro o os otra otro otros para pero poco por porque
        puede pueden que qué quien se sea ser si sí sido sin sobre son su sus también tanto te
        tiene tienen toda todas todo todos tu un una uno unos usted ustedes y ya yo""",
    "it": """a abbiamo ad agli ai al alla alle allo altri altro anche ancora avere c'è che chi ci
        come con contro cosa così cui da dagli dai dal dalla dalle degli dei del della delle dello
        deve devono di dopo dove due e è ed era essere fa fino fra gli ha hanno ho i il in io l'ha
        la le lei li lo loro lui ma me mi mia mio molto ne né negli nei nel nella nelle no noi non
        nostra nostro o ogni per perché però più può possono prima quale quali quando quanto quella
        quelle quelli quello questa queste questi questo se senza si sia siamo sono su sua sue sugli
        sul sulla suo suoi tra tu tutte tutti tutto un una uno vi voi vostro""",
    "nl": """aan al alle als altijd ander andere ben bij daar dan dat de deze die dit doch doen
        door dus een eens en er ge geen haar had heb hebben heeft hem het hier hij hoe hun iemand
        iets ik in is ja je kan kunnen kon maar me meer men met mij mijn moet moeten na naar niet
        niets nog nu of om omdat onder ons onze ook op over reeds te tegen toch toen tot u uit uw
        van veel voor want waren was wat we wel werd werden wie wij wil worden wordt zal ze zelf
        zich zij zijn zo zonder zou zullen""",
    "pt": """a à ainda além ante antes ao aos após aquela aquele as às até cada com como da das de
        dela dele deles depois desde deve devem do dos e é ela elas ele eles em entre era essa esse
        esta está estão este eu foi foram há isso isto já lhe lhes mais mas me mesmo meu minha
        muito na não nas nem no nos nós nossa nosso num numa o onde os ou para pela pelas pelo
        pelos pode podem por porque qual quando que quem são se seja sem ser será seu seus sob
        sobre sua suas também te tem têm teu toda todas todo todos tu tua um uma você vocês""",
    "pl": """a aby ale albo ani bardzo bez będzie być był była było były by bo ci co czy czyli dla
        do gdy gdzie go i ich ile im inne inny ja jak jako je jego jej jest jestem jeśli jeszcze już
        każdy kiedy kto która które którego której który których którym lub ma mają mi mnie może
        można mój my na nad nam nas nasz nasze nie nim niż o od on ona one oni oraz po pod podczas
        ponieważ poza przed przez przy są się swoje ta tak także tam te tego tej ten to tu tylko
        tym u w we więc wszystkie wszystko z za zawsze ze że żeby""",
}


@cache
def _words() -> dict[str, frozenset[str]]:
    return {language: frozenset(words.split()) for language, words in _LISTS.items()}


def stop_words(text: str) -> frozenset[str]:
    """Return the list of the language whose words the text has most of; English in doubt."""
    counts = Counter(match[0].casefold() for match in WORD.finditer(text[:_LOOKED_AT]))
    votes = {
        language: sum(counts[word] for word in words & counts.keys())
        for language, words in _words().items()
    }
    # max() takes the first of equals, and English comes first.
    return _words()[max(votes, key=lambda language: votes[language])]
