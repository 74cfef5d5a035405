//! Kinds of exceptions: what `except` names in Python.
//!
//! Counterpart: `isinstance` with the classes of `autoretry_for`, `dont_autoretry_for` and `throws`. Here an exception is a
//! type's name and module; of CPython's own, the base classes are known as well.

use celeriac_protocol::exception::TaskException;

/// A class of exceptions by its name: `KeyError`, or with its module `worker.exceptions.BadFile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionKind {
    module: Option<String>,
    name: String,
}

impl From<&str> for ExceptionKind {
    fn from(text: &str) -> Self {
        match text.rsplit_once('.') {
            Some((module, name)) => Self {
                module: Some(module.to_owned()),
                name: name.to_owned(),
            },
            None => Self {
                module: None,
                name: text.to_owned(),
            },
        }
    }
}

impl ExceptionKind {
    /// Whether an exception is of this kind, or of one that is derived from it.
    pub fn includes(&self, exception: &TaskException) -> bool {
        let module = exception.exc_module.as_deref().unwrap_or_default();
        if self.is(module, &exception.exc_type) {
            return true;
        }
        // What is not CPython's own is derived from `Exception`, as far as is known here.
        let mut name = match module {
            "builtins" => exception.exc_type.as_str(),
            _ => "",
        };
        loop {
            name = base(name);
            if self.is("builtins", name) {
                return true;
            }
            if name == "BaseException" {
                return false;
            }
        }
    }

    fn is(&self, module: &str, name: &str) -> bool {
        self.name == name && self.module.as_deref().is_none_or(|own| own == module)
    }
}

/// The base class of one of CPython's exceptions; `Exception` of any other name.
fn base(name: &str) -> &'static str {
    match name {
        "Exception" | "KeyboardInterrupt" | "SystemExit" | "GeneratorExit" | "BaseException" => {
            "BaseException"
        }
        "FloatingPointError" | "OverflowError" | "ZeroDivisionError" => "ArithmeticError",
        "IndexError" | "KeyError" => "LookupError",
        "ModuleNotFoundError" => "ImportError",
        "UnboundLocalError" => "NameError",
        "BlockingIOError" | "ChildProcessError" | "ConnectionError" | "FileExistsError"
        | "FileNotFoundError" | "InterruptedError" | "IsADirectoryError" | "NotADirectoryError"
        | "PermissionError" | "ProcessLookupError" | "TimeoutError" => "OSError",
        "BrokenPipeError"
        | "ConnectionAbortedError"
        | "ConnectionRefusedError"
        | "ConnectionResetError" => "ConnectionError",
        "NotImplementedError" | "RecursionError" => "RuntimeError",
        "IndentationError" => "SyntaxError",
        "TabError" => "IndentationError",
        "UnicodeError" => "ValueError",
        "UnicodeDecodeError" | "UnicodeEncodeError" | "UnicodeTranslateError" => "UnicodeError",
        "BytesWarning"
        | "DeprecationWarning"
        | "EncodingWarning"
        | "FutureWarning"
        | "ImportWarning"
        | "PendingDeprecationWarning"
        | "ResourceWarning"
        | "RuntimeWarning"
        | "SyntaxWarning"
        | "UnicodeWarning"
        | "UserWarning" => "Warning",
        _ => "Exception",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_includes_what_python_would_catch() {
        let refused = TaskException::builtin("ConnectionRefusedError", "no");
        for kind in [
            "ConnectionRefusedError",
            "ConnectionError",
            "OSError",
            "Exception",
            "builtins.OSError",
        ] {
            assert!(ExceptionKind::from(kind).includes(&refused), "{kind}");
        }
        for kind in ["ValueError", "TimeoutError", "other.OSError", "OS"] {
            assert!(!ExceptionKind::from(kind).includes(&refused), "{kind}");
        }
        let own = TaskException::new("worker.exceptions", "KeyError", Vec::new());
        for kind in [
            "KeyError",
            "worker.exceptions.KeyError",
            "Exception",
            "BaseException",
        ] {
            assert!(ExceptionKind::from(kind).includes(&own), "{kind}");
        }
        // Of the same name, but no relative of Python's.
        for kind in ["LookupError", "builtins.KeyError"] {
            assert!(!ExceptionKind::from(kind).includes(&own), "{kind}");
        }
        let exit = TaskException::builtin("SystemExit", "1");
        assert!(!ExceptionKind::from("Exception").includes(&exit));
    }
}
