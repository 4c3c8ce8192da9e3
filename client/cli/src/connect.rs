//! How a command finds the cluster, and how it is to answer: the options that all of them share.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use granum_client::{BuildError, Client};

use crate::output::{Output, note};

/// The port of HTTP where nothing else is set; gRPC is on the next one.
const HTTP_PORT: &str = ":6333";
/// How long the look at a port may take.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Which cluster, and for whom the answer is.
#[derive(Args, Clone, Debug)]
pub struct Connect {
    /// gRPC address of a coordinator; give it several times to name several
    #[arg(
        long = "url",
        env = "GRANUM_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:6334"
    )]
    urls: Vec<String>,
    /// Seconds that a request may take, repetitions included
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Answer in JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Connect {
    /// A client for these coordinators.
    pub fn client(&self) -> Result<Client, BuildError> {
        self.patient_client(Duration::from_secs(1), Duration::ZERO)
    }

    /// A client that goes on trying for so long while no coordinator can be reached, and gives a request at least so much time.
    pub fn patient_client(&self, patience: Duration, least_timeout: Duration) -> Result<Client, BuildError> {
        let builder = Client::builder()
            .timeout(Duration::from_secs(self.timeout).max(least_timeout))
            .patience(patience);
        let urls = self.urls.iter().map(|url| grpc_url(url));
        urls.fold(builder, |builder, url| builder.url(url)).build()
    }

    /// Where the answer goes.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }
}

/// The address as given; where it is the usual HTTP port, and HTTP answers there, the gRPC port beside it.
fn grpc_url(given: &str) -> String {
    let Some(host) = given.trim_end_matches('/').strip_suffix(HTTP_PORT) else {
        return given.to_owned();
    };
    let address = format!("{}{HTTP_PORT}", host.trim_start_matches("http://"));
    match speaks_http(&address) {
        true => {
            note(&format!(
                "{given} is the port of HTTP: asking {host}:6334, the one of gRPC"
            ));
            format!("{host}:6334")
        }
        false => given.to_owned(),
    }
}

/// Whether a plain HTTP/1 request is answered there; gRPC alone would not.
fn speaks_http(address: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut addresses = address.to_socket_addrs()?;
        let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut start = [0; 5];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/")
    };
    ask().unwrap_or(false)
}
