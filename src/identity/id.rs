//! Numbers that must not be mistaken for one another. Each counts 1, 2, 3, ...

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            pub const fn new(number: i64) -> Self {
                Self(number)
            }

            pub const fn get(self) -> i64 {
                self.0
            }

            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number! {
    /// Where an event stands in the ledger. Positions are in commit order, and have no gaps except where a
    /// loss was accepted. The default is 0, before the first event.
    #[derive(Default)]
    Position
}
number! {
    /// The number of an accepted `/identify` request. The numbers have no gaps except where a loss was
    /// accepted.
    ObservationId
}
number! {
    /// The number of a contact, which is that of the observation that introduced it.
    ContactId
}

impl Position {
    /// The position that comes so many later. Beyond the last that there can be, it is that one.
    pub const fn plus(self, len: u64) -> Self {
        Self(self.0.saturating_add_unsigned(len))
    }
}

impl From<ObservationId> for ContactId {
    fn from(observation: ObservationId) -> Self {
        Self(observation.0)
    }
}

impl From<ContactId> for ObservationId {
    fn from(contact: ContactId) -> Self {
        Self(contact.0)
    }
}
