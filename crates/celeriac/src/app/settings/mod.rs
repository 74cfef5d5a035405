//! The settings of an app: Celery's own lower-case names, each in one place.
//!
//! - `values`: the table of settings; from it come the struct, the defaults, the reading and the
//!   example file. A setting is added there and nowhere else.
//! - `kinds`: how one value is written in TOML, and what an error says is expected.
//! - `serializers`: the kinds of those that name serializers and compressions.
//! - `routes`, `annotations`: the kinds of `task_routes` and `task_annotations`.
//! - `sources`: flag > environment > file > default; unknown keys and wrong values.
//! - `example`: the text of `celeriac.example.toml`.
//! - `mask`: the one place that hides passwords of URLs.
//!
//! Counterpart: `celery/app/defaults.py` and `celery/app/utils.py` @ 5.7.0. Deliberate differences:
//! one TOML file in place of a Python module, a name that is not known is refused, and only settings
//! that do something exist.

mod annotations;
mod example;
mod kinds;
mod mask;
mod routes;
mod serializers;
mod sources;
mod values;

pub use annotations::TaskAnnotations;
pub use kinds::{QueueOrder, SentinelLogin};
pub(crate) use mask::mask_broker_url;
pub use mask::{has_password, mask_url};
pub use routes::TaskRoutes;
pub use sources::{LoadedSettings, SettingsError, Sources};
pub(crate) use values::Section;
pub use values::{BrokerTransportOptions, ResultBackendTransportOptions, Settings};
