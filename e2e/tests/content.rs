//! The content of workspaces on real nodes: kubelets with containers, Spaceport's node agent, an S3 server and a git server.

mod guard;
mod hostile;
mod input;
mod kills;
mod life;
mod quota;
mod secrets;
mod sessions;
mod stage;
mod store;
mod verbs;
