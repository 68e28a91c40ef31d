// Package store is the store door: Thanos' StoreAPI and Info over the data of
// this node alone. A Querier asks every node and merges; nothing is forwarded.
//
//	        matchers ──▶ external labels {tenant, replica} ──▶ tenants
//	                                                             │
//	tenant a's TSDB ──▶ extend, drop, shard ──┐                  │
//	tenant b's TSDB ──▶ extend, drop, shard ──┼─▶ merge by the labels as sent ─▶ frames
//	tenant c's TSDB ──▶ extend, drop, shard ──┘
//
// The stream is sorted by the labels as they are sent. Extending every series
// of a TSDB by the same labels nearly keeps the TSDB's order: only a series
// whose labels are the beginning of another's may have to wait for it, so a
// tenant streams in memory that does not grow with the answer. Where a label
// that is added or removed lives inside the series as well, the tenant's answer
// is gathered and sorted first.
//
// Data that only the bucket has is the Store Gateway's to serve.
package store
