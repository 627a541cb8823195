//! Pages of the console as `orderflow serve` sends them, with fake services whose responses the
//! test sets.

mod acts;
mod connections;
mod groups;
mod hostile;
mod jobs;
mod letters;
mod payloads;
mod replays;
mod serve;
