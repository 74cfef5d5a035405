//! The tasks of this worker.

pub mod sensor_csv;
