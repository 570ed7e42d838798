"""Parser of a command's arguments whose errors are a sentence, as all others are."""

import re
from typing import NoReturn

import jsonargparse

from mrirecon.errors import UsageError


class ArgumentParser(jsonargparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and a listing of types."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """What is wrong, and where the options are explained."""
        wrong_value = re.search(r'key "(\w+)":.*Given value: ([^\n]*)', message, re.DOTALL)
        if wrong_value:
            name, value = wrong_value.groups()
            message = f"--{name.replace('_', '-')} {value}: this option does not take such a value"
        raise UsageError(f"{' '.join(message.split()).rstrip('.')}; {self.prog} --help explains all options.") from ex
