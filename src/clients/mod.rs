//! The registry of clients (RFC 6749 §2): who may ask for tokens, with which secret and scopes, and
//! whose tokens have been revoked.
//!
//! Pure: secrets are compared here, randomness and files are not. May import `clock` and `keys`.

pub mod change;
pub mod client;
pub mod document;
pub mod registry;
pub mod revocations;
pub mod secret;
pub mod view;

pub use change::{ClientChange, ClientOrder, ClientRefusal, NewClient};
pub use client::{Client, ClientId, ClientIdError};
pub use document::{
    Action, ClientEvent, ClientState, ClientsDocument, DynamicClient, DynamicSecret,
};
pub use registry::{ClientRegistry, RegistryError};
pub use revocations::Revocations;
pub use secret::{SecretHash, SecretHashError};
pub use view::ClientView;
