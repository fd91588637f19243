"""Keys and field encryption.

What is personal is sealed with AES-256-GCM under the borrower's own data key. Data keys are kept, wrapped by
the key ring (a file), in a store of their own, the vault, and are there before anything is sealed under
them; so a backup of the data never brings back what was sealed under an erased key.
"""

from gateway.vault.fields import BlindIndex, DataKey
from gateway.vault.ring import KeyRing, KeyUse, embedded_ring
from gateway.vault.store import TENANT_KEY, Vault

__all__ = ["TENANT_KEY", "BlindIndex", "DataKey", "KeyRing", "KeyUse", "Vault", "embedded_ring"]
