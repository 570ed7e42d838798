"""Parser of a command's arguments whose errors are a sentence, as all others are."""

import argparse
import re
from typing import Any, NoReturn

import jsonargparse

from mrirecon.errors import UsageError


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Shows the help texts, which say types and units in their own words, and defaults where they do not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if "default" in text or str(action.default) in ("None", "False", "[]", argparse.SUPPRESS):
            return text
        return f"{text} (default: %(default)s)"


class ArgumentParser(jsonargparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and a listing of types."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=HelpFormatter, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """What is wrong, and where the options are explained."""
        if wrong := re.search(r'key "(\w+)":(.*)', message, re.DOTALL):
            name, details = wrong.groups()
            value = re.search(r"Given value: ([^\n]*)", details) or re.search(r"(\S+) does not conform", details)
            given = f" {value[1]}" if value else ""
            message = f"--{name.replace('_', '-')}{given}: this option does not take such a value"
        raise UsageError(f"{' '.join(message.split()).rstrip('.')}; {self.prog} --help explains all options.") from ex
