//! What people look at: a run in the terminal, and as a page.

#[cfg(feature = "cli")]
pub mod html;
pub mod text;
