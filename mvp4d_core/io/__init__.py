# SPDX-License-Identifier: Apache-2.0
"""Files: atomic writes, size limits, safetensors in numpy; pictures and videos by Pillow and PyAV."""
