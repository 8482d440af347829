//! The binary. Everything is in the library.

fn main() -> std::process::ExitCode {
    keyway::cli::main()
}
