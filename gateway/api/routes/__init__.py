"""The routes of `/v1`, by what they are about; each names its roles beside it."""
