//! What does a question look like in Rust? Asks the sample of `granum dev --sample` for chess programs.
//!
//! `cargo run -p granum-client --example chess`

use granum_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().url("http://127.0.0.1:6334").build()?;
    let query = client.query("packages").text("play chess against the computer");
    let answer = query
        .filter("section = games")?
        .limit(5)
        .with_fields(["title"])
        .send()
        .await?;
    for hit in &answer.hits {
        let payload: serde_json::Value = hit.payload()?;
        println!(
            "{:.3}  {:<16} {}",
            hit.score,
            hit.id,
            payload["title"].as_str().unwrap_or("")
        );
    }
    Ok(())
}
