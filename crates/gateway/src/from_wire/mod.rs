//! From wire to domain: the only place where bytes of a caller become words. Everything is checked
//! here, once; what cannot be read is refused with its rule and never with its value.

pub(crate) mod attribute;
pub(crate) mod body;
pub(crate) mod conditions;
pub(crate) mod cursor;
pub(crate) mod event;
pub(crate) mod evidence;
pub(crate) mod json;
pub(crate) mod line;
pub(crate) mod lines;
pub(crate) mod path;
pub(crate) mod query;
