"""Bounds of user text. Knows nothing of tokenisers."""

from serve_app.errors import EmptyText, InvalidRequest, TextTooLong


def check_text(text: str, max_characters: int) -> None:
    """Raises EmptyText for nothing but white space, TextTooLong for more than `max_characters`, InvalidRequest for half
    of a surrogate pair, which JSON lets through and UTF-8 cannot say."""
    if not text.strip():
        raise EmptyText("the text is empty")
    if len(text) > max_characters:
        raise TextTooLong(f"the text has {len(text):,} characters, at most {max_characters:,} are taken")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("the text is not valid Unicode") from error
