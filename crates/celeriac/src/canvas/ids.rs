//! Ids of what is sent: by a client any, by what follows a task the same ones each time.

use uuid::Uuid;

/// Ids, one after the other.
#[derive(Debug)]
pub(crate) enum Ids {
    Random,
    /// A second run after a crash sends the same ones.
    Derived {
        seed: String,
        count: u32,
    },
}

impl Ids {
    /// Those that the end of a task draws, at this place.
    pub(crate) fn of(id: &str, place: &str) -> Self {
        Self::Derived {
            seed: format!("{id}/{place}"),
            count: 0,
        }
    }

    pub(crate) fn next(&mut self) -> String {
        let id = match self {
            Self::Random => Uuid::new_v4(),
            Self::Derived { seed, count } => {
                let name = format!("{seed}-{count}");
                *count += 1;
                Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
            }
        };
        id.to_string()
    }
}
