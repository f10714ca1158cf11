mod lists;
mod pulls;
mod removals;
mod rig;
mod served;
