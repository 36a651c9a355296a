//! The least function there can be: the floor that `cargo xtask bench` measures the others beside. It is deployed nowhere.

use std::convert::Infallible;

use lambda_http::{Error, Request, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_http::run(service_fn(|_: Request| async { Ok::<_, Infallible>("hello") })).await
}
