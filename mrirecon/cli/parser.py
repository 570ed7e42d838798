"""Parser of a command's arguments whose errors are a sentence, as all others are."""

import re
from typing import NoReturn

import jsonargparse

from mrirecon.errors import UsageError


class ArgumentParser(jsonargparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and a listing of types."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """What is wrong, and where the options are explained."""
        if wrong := re.search(r'key "(\w+)":(.*)', message, re.DOTALL):
            name, details = wrong.groups()
            value = re.search(r"Given value: ([^\n]*)", details) or re.search(r"(\S+) does not conform", details)
            given = f" {value[1]}" if value else ""
            message = f"--{name.replace('_', '-')}{given}: this option does not take such a value"
        raise UsageError(f"{' '.join(message.split()).rstrip('.')}; {self.prog} --help explains all options.") from ex
