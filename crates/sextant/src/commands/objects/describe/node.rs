use client::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use super::{Sheet, conditions};
use crate::failure::Result;
use crate::objects::{Call, JSON, Server, list, text};

/// What a person asks of a node: whether it works, what it has, and which pods are on it.
pub(super) fn describe(sheet: &mut Sheet, server: &Server, node: &Value) -> Result<()> {
    let taints: Vec<String> = list(node, "/spec/taints")
        .iter()
        .map(|taint| match text(taint, "/value") {
            "" => format!("{}:{}", text(taint, "/key"), text(taint, "/effect")),
            value => format!("{}={value}:{}", text(taint, "/key"), text(taint, "/effect")),
        })
        .collect();
    sheet.values("Taints", &taints);
    let closed = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    sheet.field("Unschedulable", if closed { "true" } else { "false" });
    conditions(sheet, node);
    sheet.part("Addresses", |sheet| {
        for one in list(node, "/status/addresses") {
            sheet.field(text(one, "/type"), text(one, "/address"));
        }
    });
    for (label, place) in [("Capacity", "/status/capacity"), ("Allocatable", "/status/allocatable")] {
        sheet.pairs(label, node.pointer(place), ": ");
    }
    if let Some(info) = node.pointer("/status/nodeInfo") {
        sheet.part("System Info", |sheet| sheet.tree(info));
    }
    let fields = format!("spec.nodeName={}", text(node, "/metadata/name"));
    let pods = server.ask(Call::get("/api/v1/pods", JSON).with("fieldSelector", &fields))?;
    let rows = list(&pods, "/items").iter().map(row).collect();
    sheet.table(
        "Pods",
        &["Namespace", "Name", "Phase", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits"],
        rows,
    );
    Ok(())
}

fn row(pod: &Value) -> Vec<String> {
    let sum = |of: &str, resource: &str| {
        let place = format!("/resources/{of}/{resource}");
        let all: Vec<Quantity> = list(pod, "/spec/containers")
            .iter()
            .map(|one| Quantity(text(one, &place).to_owned()))
            .filter(|quantity| !quantity.0.is_empty())
            .collect();
        match resource {
            "cpu" => format!("{}m", all.iter().filter_map(quantity::thousandths).sum::<i64>()),
            _ => format!("{}Mi", all.iter().filter_map(quantity::bytes).sum::<i64>() >> 20),
        }
    };
    vec![
        text(pod, "/metadata/namespace").to_owned(),
        text(pod, "/metadata/name").to_owned(),
        text(pod, "/status/phase").to_owned(),
        sum("requests", "cpu"),
        sum("limits", "cpu"),
        sum("requests", "memory"),
        sum("limits", "memory"),
    ]
}
