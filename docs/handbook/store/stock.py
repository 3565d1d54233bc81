"""What is left in the store room."""


class Stock:
    """Counts items by name."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def take(self, name: str, count: int = 1) -> bool:
        """Take items out, all of them or none."""
        if self.items.get(name, 0) < count:
            return False
        # Zero stays, so that the name is still known.
        self.items[name] -= count
        return True


def shortage(stock: Stock, least: int) -> list[str]:
    """Name what there is too little of."""
    return sorted(name for name, count in stock.items.items() if count < least)
