//! The controller of one namespace.
pub mod decide;
pub mod pod;
pub mod settings;
