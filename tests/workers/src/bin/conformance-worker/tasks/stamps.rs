//! Stamps on a signature: headers that its tasks are sent with.
//!
//! Counterpart: `celery/canvas.py` (`stamp` of each kind, with a visitor whose `on_signature` names a stamp) @ 5.7.0.

use serde_json::{Value, json};

/// Stamps every task of a signature, and whatever is linked to any part of it.
pub(super) fn stamp(signature: &mut Value, name: &str, value: &Value) {
    for link in ["link", "link_error"] {
        let links = signature.pointer_mut(&format!("/options/{link}"));
        stamp_all(links, name, value);
    }
    let kind = signature.get("subtask_type").and_then(Value::as_str);
    match kind {
        Some("chain" | "group") => stamp_all(signature.pointer_mut("/kwargs/tasks"), name, value),
        Some("chord") => {
            stamp_all(signature.pointer_mut("/kwargs/header"), name, value);
            stamp_all(signature.pointer_mut("/kwargs/body"), name, value);
        }
        _ => stamp_task(signature, name, value),
    }
}

/// None, one or several.
fn stamp_all(signatures: Option<&mut Value>, name: &str, value: &Value) {
    match signatures {
        None | Some(Value::Null) => {}
        Some(Value::Array(all)) => all.iter_mut().for_each(|one| stamp(one, name, value)),
        Some(one) => stamp(one, name, value),
    }
}

fn stamp_task(signature: &mut Value, name: &str, value: &Value) {
    let Some(fields) = signature.as_object_mut() else {
        return;
    };
    let options = fields.entry("options").or_insert_with(|| json!({}));
    let Some(options) = options.as_object_mut() else {
        return;
    };
    let names = options
        .entry("stamped_headers")
        .or_insert_with(|| json!([]));
    if let Some(names) = names.as_array_mut()
        && !names.contains(&json!(name))
    {
        names.push(json!(name));
    }
    options.insert(name.to_owned(), value.clone());
}
