//! Compiles the .proto files without protoc: protox parses, tonic generates.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "granum/v1/common.proto",
        "granum/v1/search.proto",
        "granum/v1/write.proto",
        "granum/v1/admin.proto",
        "granum/internal/v1/command.proto",
        "granum/internal/v1/register.proto",
        "granum/internal/v1/shard.proto",
        "granum/internal/v1/map.proto",
        "granum/internal/v1/raft.proto",
        "granum/internal/v1/seal.proto",
    ];
    println!("cargo:rerun-if-changed=granum");
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .file_descriptor_set_path(PathBuf::from(std::env::var("OUT_DIR")?).join("granum.bin"))
        .compile_fds(descriptors)?;
    Ok(())
}
