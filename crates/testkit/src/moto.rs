//! moto, which is EC2 and Elastic Load Balancing in memory, with a VPC in it.
#![allow(clippy::unwrap_used, reason = "a test's tool: what fails here fails the test")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{shown, tail};
use crate::{Error, Result};

/// The tag that all of the cluster's things have.
pub const MARK: &str = "kubernetes.io/cluster/shop";

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(180);

/// Its program, which ends with this.
#[derive(Debug)]
pub struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it from the folder that it was installed into; where it listens, on loopback of the caller's network. What it says is in the
/// file `words`.
///
/// # Errors
/// It does not start.
pub fn start(libraries: &Path, words: &Path) -> Result<(Program, SocketAddr)> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.map_err(|e| Error::refuse("find", "a free port of loopback", e.to_string()))?;
    let file = File::create(words).map_err(|e| Error::access("create", words, e))?;
    let mut python = Command::new("python3");
    let port = address.port().to_string();
    python.args(["-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", &port]);
    python.env("PYTHONPATH", libraries).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    // A harness that is killed leaves nothing.
    kernel::command::dies_with_thread(&mut python);
    let command = shown(&python);
    let failed = |source| Error::Start { command: command.clone(), source };
    let mut program = Program(python.spawn().map_err(failed)?);
    let said = || tail(&String::from_utf8_lossy(&fs::read(words).unwrap_or_default()), 30);
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = program.0.try_wait().map_err(failed)? {
            return Err(Error::Fail { command, status: status.to_string(), output: said() });
        }
        if began.elapsed() > PATIENCE {
            let what = format!("a start of moto at {address}");
            return Err(Error::Wait { what, limit: PATIENCE, output: said() });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((program, address))
}

/// A VPC with a subnet and the nodes' security group. What it is asked for must be there: else it panics.
#[derive(Debug)]
pub struct Server {
    /// Where moto listens.
    pub moto: SocketAddr,
    /// The VPC's id.
    pub vpc: String,
    /// The subnet's id.
    pub subnet: String,
    group: String,
}

/// Sends a form to moto itself; the answer's text, whatever its status.
fn post(moto: SocketAddr, service: &str, path: &str, form: &str) -> String {
    let mut stream = TcpStream::connect(moto).expect("SEXTANT_TEST_MOTO does not answer");
    let who = format!(
        "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let kind = "application/x-www-form-urlencoded";
    let length = form.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {moto}\r\nauthorization: {who}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{form}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Whether an answer is of what was asked, and not of what is wrong with it.
fn is_good(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 2")
}

/// The texts of all elements of this name.
#[must_use]
pub fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).filter_map(|rest| Some(rest.split(&close).next()?.to_owned())).collect()
}

impl Server {
    /// In a server that has nothing else then.
    #[must_use]
    pub fn furnish(moto: SocketAddr) -> Self {
        post(moto, "ec2", "/moto-api/reset", "");
        let mut it = Self { moto, vpc: String::new(), subnet: String::new(), group: String::new() };
        it.vpc = it.made("Action=CreateVpc&CidrBlock=10.0.0.0/16", "vpcId");
        let (vpc, tag) = (it.vpc.clone(), format!("Tag.1.Key={MARK}&Tag.1.Value=owned"));
        it.ec2(&format!("Action=ModifyVpcAttribute&VpcId={vpc}&EnableDnsHostnames.Value=true"));
        it.subnet = it.made(
            &format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.0.1.0/24&AvailabilityZone=us-east-1a"),
            "subnetId",
        );
        it.ec2(&format!("Action=CreateTags&ResourceId.1={}&{tag}", it.subnet));
        it.group = it.made(
            &format!("Action=CreateSecurityGroup&GroupName=nodes&GroupDescription=nodes&VpcId={vpc}"),
            "groupId",
        );
        it.ec2(&format!(
            "Action=CreateTags&ResourceId.1={}&Tag.1.Key=kubernetes.io/role/elb&Tag.1.Value=1",
            it.subnet
        ));
        it
    }

    /// A call to moto itself, of EC2; the answer's text.
    pub fn ec2(&self, form: &str) -> String {
        Self::ec2_of(self.moto, form)
    }

    fn ec2_of(moto: SocketAddr, form: &str) -> String {
        Self::good(form, post(moto, "ec2", "/", &format!("{form}&Version=2016-11-15")))
    }

    /// The same of Elastic Load Balancing.
    pub fn elb(&self, form: &str) -> String {
        Self::good(form, self.post_elb(form))
    }

    /// The same while others delete what is asked about: the answer, if it is one.
    #[must_use]
    pub fn ask_elb(&self, form: &str) -> Option<String> {
        Some(self.post_elb(form)).filter(|answer| is_good(answer))
    }

    fn post_elb(&self, form: &str) -> String {
        post(self.moto, "elasticloadbalancing", "/", &format!("{form}&Version=2015-12-01"))
    }

    /// The ARN of a certificate that listeners may have. What stands in it moto does not ask.
    #[must_use]
    pub fn certificate(&self, name: &str) -> String {
        let form = format!(
            "Action=UploadServerCertificate&Version=2010-05-08&ServerCertificateName={name}&CertificateBody=none&PrivateKey=none"
        );
        let answer = Self::good(&form, post(self.moto, "iam", "/", &form));
        all(&answer, "Arn").remove(0)
    }

    /// Ports of the only load balancer, each with what is spoken there, and the certificate for it.
    #[must_use]
    pub fn spoken(&self) -> Vec<(String, String, Option<String>)> {
        let arn = all(&self.elb("Action=DescribeLoadBalancers"), "LoadBalancerArn").remove(0);
        let told = self.elb(&format!("Action=DescribeListeners&LoadBalancerArn={arn}"));
        // Each has an ARN of its own, and its other fields beside that.
        let mut listeners = Vec::new();
        for arn in all(&told, "ListenerArn") {
            let one = self.elb(&format!("Action=DescribeListeners&ListenerArns.member.1={arn}"));
            let certificate = all(&one, "CertificateArn").into_iter().next();
            listeners.push((all(&one, "Port").remove(0), all(&one, "Protocol").remove(0), certificate));
        }
        listeners.sort();
        listeners
    }

    fn good(form: &str, answer: String) -> String {
        assert!(is_good(&answer), "{form}: {answer}");
        answer
    }

    /// A call of EC2 that makes something; the first text of this name in its answer: the id.
    pub fn made(&self, form: &str, name: &str) -> String {
        all(&self.ec2(form), name).remove(0)
    }

    /// So many instances that run, each with its private DNS name.
    pub fn run(&self, count: usize) -> Vec<(String, String)> {
        self.run_in(count, &self.group)
    }

    /// The same in a security group.
    pub fn run_in(&self, count: usize, group: &str) -> Vec<(String, String)> {
        let image = all(&self.ec2("Action=DescribeImages&Owner.1=amazon"), "imageId").remove(0);
        let tags = format!(
            "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key={MARK}&TagSpecification.1.Tag.1.Value=owned"
        );
        let answer = self.ec2(&format!(
            "Action=RunInstances&ImageId={image}&MinCount={count}&MaxCount={count}&InstanceType=m5.large&SubnetId={}&SecurityGroupId.1={}&{tags}",
            self.subnet, group
        ));
        all(&answer, "instanceId").into_iter().map(|id| (id.clone(), self.name(&id))).collect()
    }

    fn name(&self, id: &str) -> String {
        all(&self.ec2(&format!("Action=DescribeInstances&InstanceId.1={id}")), "privateDnsName").remove(0)
    }

    /// What takes back a rule for TCP of the nodes' security group once it is called.
    pub fn closes(&self, port: u16, from: &str) -> impl FnOnce() + Send + 'static + use<> {
        let rule = "IpPermissions.1";
        let form = format!(
            "Action=RevokeSecurityGroupIngress&GroupId={}&{rule}.IpProtocol=tcp&{rule}.FromPort={port}&{rule}.ToPort={port}\
             &{rule}.IpRanges.1.CidrIp={from}",
            self.group
        );
        let moto = self.moto;
        move || drop(Self::ec2_of(moto, &form))
    }

    /// Ends an instance.
    pub fn terminate(&self, id: &str) {
        self.ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    }

    /// Names of all load balancers.
    #[must_use]
    pub fn balancers(&self) -> Vec<String> {
        all(&self.elb("Action=DescribeLoadBalancers"), "LoadBalancerName")
    }

    /// Names of all target groups.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        all(&self.elb("Action=DescribeTargetGroups"), "TargetGroupName")
    }

    /// Ports of the only load balancer.
    #[must_use]
    pub fn listeners(&self) -> Vec<String> {
        let arn = all(&self.elb("Action=DescribeLoadBalancers"), "LoadBalancerArn").remove(0);
        let told = self.elb(&format!("Action=DescribeListeners&LoadBalancerArn={arn}"));
        let mut ports = all(&told, "Port");
        ports.sort();
        ports
    }

    /// What each target group leads to.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        self.ask_targets().expect("a target group that is listed is there")
    }

    /// The same while others delete target groups: `None` where one that was listed is not there any more.
    #[must_use]
    pub fn ask_targets(&self) -> Option<Vec<String>> {
        let arns = all(&self.ask_elb("Action=DescribeTargetGroups")?, "TargetGroupArn");
        let mut all_: Vec<String> = Vec::new();
        for arn in arns {
            let told = self.ask_elb(&format!("Action=DescribeTargetHealth&TargetGroupArn={arn}"))?;
            for target in all(&told, "Target") {
                all_.push(format!("{}:{}", all(&target, "Id")[0], all(&target, "Port")[0]));
            }
        }
        all_.sort();
        Some(all_)
    }

    /// Ports of all load balancers, each as often as there is a listener at it; `None` where one that was listed is not there any more.
    #[must_use]
    pub fn ask_ports(&self) -> Option<Vec<String>> {
        let mut ports: Vec<String> = Vec::new();
        for arn in all(&self.ask_elb("Action=DescribeLoadBalancers")?, "LoadBalancerArn") {
            ports.extend(all(
                &self.ask_elb(&format!("Action=DescribeListeners&LoadBalancerArn={arn}"))?,
                "Port",
            ));
        }
        ports.sort();
        Some(ports)
    }

    /// Rules that bear a load balancer's mark: ports and what they are for.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        let told = self.ec2(&format!(
            "Action=DescribeSecurityGroups&Filter.1.Name=vpc-id&Filter.1.Value.1={}",
            self.vpc
        ));
        let mut rules: Vec<String> = Vec::new();
        for group in all(&told, "ipPermissions") {
            for part in group.split("<fromPort>").skip(1) {
                let port = part.split('<').next().unwrap();
                let ranges = all(part, "ipRanges").into_iter().next().unwrap_or_default();
                for range in all(&ranges, "item") {
                    let from = all(&range, "cidrIp").remove(0);
                    let what = all(&range, "description").into_iter().next().unwrap_or_default();
                    if let Some((kind, _)) =
                        what.strip_prefix("kubernetes.io/rule/nlb/").and_then(|what| what.split_once('='))
                    {
                        rules.push(format!("{port} {from} {kind}"));
                    }
                }
            }
        }
        rules.sort();
        rules
    }

    /// Whether a load balancer has left nothing.
    pub fn has_nothing(&self) {
        assert_eq!(self.balancers(), [""; 0]);
        assert_eq!(self.groups(), [""; 0]);
        assert_eq!(self.rules(), [""; 0]);
    }
}
