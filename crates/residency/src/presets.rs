//! The files that ship with domicile, so that a binary carries them: the policy, and the presets it chooses from.

/// `config/presets/jurisdictions.csv`: countries, subdivisions and what is known of their law. To be reviewed with counsel.
pub const JURISDICTIONS: &str = include_str!("../../../config/presets/jurisdictions.csv");

/// `config/presets/locations.csv`: the locations of clouds, with their countries.
pub const LOCATIONS: &str = include_str!("../../../config/presets/locations.csv");

/// `config/residency.toml`: the policy that ships, a starting point to be reviewed with counsel.
pub const SHIPPED_POLICY: &str = include_str!("../../../config/residency.toml");

/// `config/presets/telemetry.csv`: where vendors keep the metrics and traces that are sent to their sites.
pub const TELEMETRY: &str = include_str!("../../../config/presets/telemetry.csv");
