//! A service in Rust: the trait its servers implement, the client, and what leads from a method's name to the trait.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

use prost_build::{Method, Service, ServiceGenerator};

/// What goes into other files than the messages; clones share it.
#[derive(Clone, Default)]
pub(super) struct Generated {
    pub(super) clients: Rc<RefCell<String>>,
    pub(super) servers: Rc<RefCell<String>>,
}

impl ServiceGenerator for Generated {
    fn generate(&mut self, service: Service, messages: &mut String) {
        messages.push_str(&trait_of(&service));
        self.clients.borrow_mut().push_str(&client_of(&service));
        self.servers.borrow_mut().push_str(&server_of(&service));
    }
}

/// `Messages<A>` of a streaming method, `A` of any other; `prefix` is the path to the messages.
fn answer(method: &Method, stream: &str, prefix: &str) -> String {
    let answer = format!("{prefix}{}", method.output_type);
    if method.server_streaming { format!("{stream}<{answer}>") } else { answer }
}

fn docs(comments: &[String]) -> String {
    comments.iter().flat_map(|block| block.lines()).fold(String::new(), |mut docs, line| {
        let _infallible = writeln!(docs, "///{}{line}", if line.starts_with(' ') { "" } else { " " });
        docs
    })
}

fn trait_of(service: &Service) -> String {
    let mut methods = String::new();
    for method in &service.methods {
        let (docs, answer) = (docs(&method.comments.leading), answer(method, "grpc::Messages", ""));
        let Method { name, proto_name, input_type, .. } = method;
        let _infallible = write!(
            methods,
            "{docs}fn {name}(&self, request: {input_type}) -> impl Future<Output = Result<{answer}, grpc::Status>> + Send {{
                let _unread = request;
                std::future::ready(Err(grpc::Status::unimplemented({proto_name:?})))
            }}\n\n"
        );
    }
    let (docs, name) = (docs(&service.comments.leading), &service.name);
    format!(
        "{docs}///\n/// A method that is not overridden answers [`grpc::Code::Unimplemented`].
        pub trait {name}: Send + Sync + 'static {{ {methods} }}\n\n"
    )
}

fn client_of(service: &Service) -> String {
    let mut methods = String::new();
    for method in &service.methods {
        let (docs, answer) = (docs(&method.comments.leading), answer(method, "grpc::Incoming", "v1::"));
        let Method { name, proto_name, input_type, .. } = method;
        let kind = if method.server_streaming { "streaming" } else { "unary" };
        let path = format!("/{}.{}/{proto_name}", service.package, service.proto_name);
        let _infallible = write!(
            methods,
            "{docs}///\n/// # Errors\n/// See [`grpc::Channel::{kind}`].
            pub async fn {name}(&self, request: v1::{input_type}) -> Result<{answer}, grpc::Error> {{
                self.channel.{kind}({path:?}, &request).await
            }}\n\n"
        );
    }
    format!("impl super::Client {{ {methods} }}\n\n")
}

fn server_of(service: &Service) -> String {
    let mut methods = String::new();
    for method in &service.methods {
        let Method { name, proto_name, input_type, .. } = method;
        let kind = if method.server_streaming { "streaming" } else { "unary" };
        let _infallible = writeln!(
            methods,
            "{proto_name:?} => grpc::{kind}(request, |request: v1::{input_type}| async move {{
                request.validate()?;
                service.{name}(request).await
            }}),"
        );
    }
    let (name, full) = (&service.name, format!("{}.{}", service.package, service.proto_name));
    format!(
        "/// `{full}` over an implementation of it, which sees only requests that are valid.
        pub(super) struct {name}<S>(pub(super) std::sync::Arc<S>);

        impl<S: v1::{name}> grpc::Service for {name}<S> {{
            fn name(&self) -> &'static str {{ {full:?} }}

            fn call(&self, method: &str, request: bytes::Bytes) -> Option<grpc::Answer> {{
                let service = std::sync::Arc::clone(&self.0);
                Some(match method {{ {methods} _ => return None }})
            }}
        }}\n\n"
    )
}
