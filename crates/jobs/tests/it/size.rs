//! A table that has grown, and how many jobs a second there are. Not run by default: they take a minute.

use std::time::{Duration, Instant};

use jobs::{Filter, Meta, State};

use crate::house::{Brief, House, Work};
