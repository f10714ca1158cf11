//! Listeners: the ports of a load balancer.

use cpi::contract::Error;

use super::failed;
use super::wish::{Port, Wish};
use crate::api::{Failed, Form, Kind};
use crate::elb::{self, Balancer, Listener, TargetGroup};
use crate::provider::Aws;

fn with(form: Form, port: &Port, group: &TargetGroup, wish: &Wish) -> Form {
    let mut form = form
        .with("Protocol", port.protocol)
        .with("Port", port.port)
        .with("DefaultActions.member.1.Type", "forward")
        .with("DefaultActions.member.1.TargetGroupArn", &group.arn);
    if port.protocol == "TLS" {
        form = form.with("Certificates.member.1.CertificateArn", &wish.certificate);
        if !wish.policy.is_empty() {
            form = form.with("SslPolicy", &wish.policy);
        }
    }
    form
}

/// Whether a listener is as it is wanted.
fn is_right(has: &Listener, port: &Port, group: &TargetGroup, wish: &Wish) -> bool {
    let is_secured = port.protocol != "TLS"
        || has.certificate == wish.certificate && (wish.policy.is_empty() || has.policy == wish.policy);
    has.protocol == port.protocol && has.group == group.arn && is_secured
}

impl Aws {
    /// Has a load balancer listen at these ports and no others, and lead to these target groups.
    pub(super) async fn listen(
        &self,
        balancer: &Balancer,
        wish: &Wish,
        led: &[(Port, TargetGroup)],
    ) -> Result<(), Error> {
        let act = format!("have load balancer {} listen", wish.name);
        let has = elb::listeners_of(&self.client, &balancer.arn).await.map_err(|e| failed(&act, e))?;
        for left in has.iter().filter(|one| led.iter().all(|(port, _)| port.port != one.port)) {
            let form = Form::new().with("ListenerArn", &left.arn);
            match elb::act(&self.client, "DeleteListener", form).await {
                Err(e) if e.is(&["ListenerNotFound"]) => {}
                done => done.map_err(|e| failed(&act, e))?,
            }
        }
        for (port, group) in led {
            match has.iter().find(|one| one.port == port.port) {
                Some(one) if is_right(one, port, group, wish) => {}
                Some(one) => self.change(one, port, group, wish).await.map_err(|e| failed(&act, e))?,
                None => self.make_listener(balancer, port, group, wish).await.map_err(|e| failed(&act, e))?,
            }
        }
        Ok(())
    }

    async fn change(
        &self,
        one: &Listener,
        port: &Port,
        group: &TargetGroup,
        wish: &Wish,
    ) -> Result<(), Failed> {
        let form = with(Form::new().with("ListenerArn", &one.arn), port, group, wish);
        elb::act(&self.client, "ModifyListener", form).await
    }

    async fn make_listener(
        &self,
        balancer: &Balancer,
        port: &Port,
        group: &TargetGroup,
        wish: &Wish,
    ) -> Result<(), Failed> {
        let form = Form::new().with("LoadBalancerArn", &balancer.arn);
        let form = with(form, port, group, wish).tags("Tags.member", &wish.tags).once();
        match elb::act(&self.client, "CreateListener", form).await {
            // It was made and nobody heard of that, or nearly so.
            Err(e) if e.is(&["DuplicateListener"]) || e.kind == Kind::Lost => {
                let has = elb::listeners_of(&self.client, &balancer.arn).await?;
                match has.iter().find(|one| one.port == port.port) {
                    Some(one) if is_right(one, port, group, wish) => Ok(()),
                    Some(one) => self.change(one, port, group, wish).await,
                    None => Err(e),
                }
            }
            done => done,
        }
    }
}
