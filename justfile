# What CI runs, by name. `just` alone runs all that CI runs.

ci: test

# Formatting, clippy with warnings denied, then every test
test:
    ./scripts/test

# Format the code
fmt:
    cargo fmt --all

# Build the documentation, with warnings denied
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# Check advisories, licences and sources of the dependencies
deny:
    cargo deny check

# Three nodes on this machine, twelve pictures
demo *FLAGS:
    ./scripts/demo {{ FLAGS }}

# Fuzz each target for half a minute
fuzz *FLAGS:
    ./scripts/fuzz {{ FLAGS }}
