//! The hello-world that `cargo lambda new` writes: the floor of `cargo xtask bench`. It is deployed
//! nowhere.

use lambda_http::Body;
use lambda_http::Error;
use lambda_http::Request;
use lambda_http::Response;
use lambda_http::run;
use lambda_http::service_fn;
use lambda_http::tracing;

async fn hello(_: Request) -> Result<Response<Body>, Error> {
    Ok(Response::builder()
        .status(200)
        .header("content-type", "text/html")
        .body("Hello world, this is an AWS Lambda HTTP request".into())?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    run(service_fn(hello)).await
}
