//! What the HTTP face promises without a database.
