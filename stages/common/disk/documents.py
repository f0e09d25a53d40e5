"""Small JSON files with a schema: one class for each kind of file."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.common.disk.files import regular, write_text
from stages.common.errors import InputError

AnyDocument = TypeVar("AnyDocument", bound="Document")


class Document(BaseModel):
    """What one kind of JSON file holds; its fields are the file's keys, in that order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def load(cls: type[AnyDocument], path: Path, remedy: str = "run `dvc repro`") -> AnyDocument:
        """Reads the file at ``path``.

        Raises InputError, with ``remedy`` for what to do, where the file is missing, damaged or of another version.
        """
        try:
            with regular(path) as file:
                return cls.model_validate(json.loads(file.read().decode()))
        except FileNotFoundError:
            raise InputError(f"{path} is missing: {remedy}") from None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            what = "is of another version of headstart" if isinstance(error, ValidationError) else "is damaged"
            raise InputError(f"{path} {what}: {remedy}") from None

    def save(self, path: Path) -> None:
        """Writes it as indented JSON, whole or not at all."""
        write_text(path, json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")
