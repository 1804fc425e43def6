"""The client of the hub, and its errors as one paragraph each.

The client finds the hub and the token for it as always: by HF_ENDPOINT, HF_TOKEN, or what `hf auth login`
keeps. Neither is a setting here, so no command line, configuration or log holds a token.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from streetvision_core.errors import BundleError
from streetvision_core.models.hub import reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import HfApi

_SIGN_IN = "Check the name; set HF_TOKEN, or run 'hf auth login', as somebody who may do that."


def connect() -> HfApi:
    """Return the client of the hub that HF_ENDPOINT names."""
    from huggingface_hub import HfApi, constants

    return HfApi(endpoint=constants.ENDPOINT, library_name="streetvision")


@contextmanager
def hub_errors(repository: str, *, expected: str) -> Iterator[None]:
    """Raise what the client raises during the block as a BundleError.

    The client's own errors hold the request with its token, so they are not handed on as the cause.
    """
    from httpx2 import HTTPError
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    def refuse(found: str, action: str) -> NoReturn:
        raise BundleError(expected, found, f"the hub's {repository}", action) from None

    try:
        yield
    except BundleError:
        raise
    except HFValidationError:
        refuse(f"the name {repository!r}", "Write OWNER/NAME, as on the page of the repository.")
    except RevisionNotFoundError:
        refuse("no such revision", "Correct --revision; the page of the repository lists its commits.")
    except RepositoryNotFoundError:
        refuse("no such repository, or one that is not open to you", _SIGN_IN)
    except (OSError, HTTPError, RuntimeError, ValueError) as error:
        # What the network does comes as any of them; a response of the hub has a status.
        status = getattr(getattr(error, "response", None), "status_code", None)
        network = "Check the network (HF_ENDPOINT, HF_HUB_OFFLINE, the proxy), and run it again."
        refuse(f"the error '{reason(error)}'", _SIGN_IN if status in {401, 403} else network)
