//! The console's pages as `orderflow serve` sends them, with services that answer as a test wants.

mod acts;
mod connections;
mod groups;
mod hostile;
mod letters;
mod payloads;
mod replays;
mod serve;
