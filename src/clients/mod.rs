//! The registry of clients (RFC 6749 §2): who may ask for tokens, with which secret and scopes.
//!
//! Pure: secrets are compared here, randomness and files are not. May import `clock` and `keys`.

pub mod client;
pub mod registry;
pub mod secret;

pub use client::Client;
pub use registry::{ClientRegistry, RegistryError};
pub use secret::{SecretHash, SecretHashError};
