"""Why a file cannot be loaded. The messages complete a sentence that begins with the file's path."""


class FileError(Exception):
    """The file cannot be loaded; the message says why and what to do."""


class Damaged(FileError):
    def __init__(self, reason: str):
        super().__init__(f"is damaged or incomplete ({reason}); copy or download it again.")


class Unsupported(FileError):
    """The file may be whole, but holds something else than what can be loaded."""

    def __init__(self, what: str, advice: str = "choose another file"):
        super().__init__(f"{what}; {advice}.")
