"""What of the server's environment a job's process inherits: an allow list, because nobody can list all secrets.

Called by ``worker`` and ``studio.service``. Settings are no part of it: the service hands those on one by one.
"""

import os
import re
from collections.abc import Collection, Mapping

_NAMES = frozenset(
    {
        # where things are, and how this machine speaks
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP",
        "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "VIRTUAL_ENV", "CONDA_PREFIX",
        "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "GLIBC_TUNABLES",
        # the way into the network
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        # libraries' folders and switches
        "HF_HOME", "HF_ENDPOINT", "HF_ASSETS_CACHE", "HF_DATASETS_CACHE", "HF_DEBUG", "HUGGINGFACE_HUB_CACHE",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN", "TOKENIZERS_PARALLELISM", "MPLCONFIGDIR", "U2NET_HOME",
    }
)  # fmt: skip
_PREFIXES = (
    "LC_", "PYTHON", "HF_HUB_", "HF_XET_", "TRANSFORMERS_", "DIFFUSERS_", "SAFETENSORS_", "ACCELERATE_", "BNB_",
    "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "HIP_", "HSA_", "ROCR_", "ROCM_", "MIOPEN_", "MTL_",
    "PYTORCH_", "TORCH", "TRITON_", "XFORMERS_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "VECLIB_", "NUMEXPR_",
    "DNNL_", "ONEDNN_", "NUMBA_", "OPENCV_", "MALLOC_", "COVERAGE_",
)  # fmt: skip
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH|_KEY")

OWNERS = ("STUDIO_HUB_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
"""What the jobs of the machine's owner, and no others, get beside that: the machine's login to the Hub."""


def inherited(environment: Mapping[str, str], more: Collection[str] = ()) -> dict[str, str]:
    """Return what every job's process gets of ``environment``.

    Args:
        environment: of the server.
        more: further names, from the settings.
    """
    return {name: value for name, value in environment.items() if name in more or _is_allowed(name)}


def machines_login() -> dict[str, str]:
    """Return the variables by which this machine is logged in to the Hub."""
    return {name: os.environ[name] for name in OWNERS if name in os.environ}


def _is_allowed(name: str) -> bool:
    return name in _NAMES or (name.startswith(_PREFIXES) and not _SECRET.search(name))
