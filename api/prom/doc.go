// Package prom answers PromQL from the members' own stores: a tenant's query
// on any node, and the operator's over all tenants.
//
//	handler ─▶ engine ─▶ fan-out ─┬─▶ this node's store     ┐
//	   ▲                          ├─▶ n2 (peerpb.Read)      ├─▶ merge of replicas
//	   │                          └─▶ n3 (hung: silent)     ┘
//	   └── complete? ◀── who answered, for which stores, with which gaps
//
// Every member that may hold a sample of the asked period is asked: the slot
// tables, past epochs included, name its stores. A member that fails, ends its
// answer early or stays silent for a while does not stop the query; afterwards
// ring.Table.Complete judges whether those that answered meet every quorum that
// may have acknowledged a sample. If not, the answer is an error that names
// what is missing, or partial with a warning where the caller asked for that.
//
// Only the members are asked. Samples older than the tenant's local retention
// are in the bucket alone, behind a Store Gateway: completeness is judged for
// the retention, and an answer that reaches further back says so in its infos.
//
// Replicas agree on a sample that was acknowledged once. Where a sender wrote
// two values for one time, every node shows the same one: the greater bit
// pattern, and never a stale marker where there is a value.
package prom
