// Package tenancy says who the tenant of a request on the write door is, for
// writes and queries alike. What a credential is, the cluster's settings decide
// (tenant_auth):
//
//	token        Authorization: Bearer T, or Basic with T as the password.
//	             The token names the tenant.
//	header       the tenant header, else X-Scope-OrgID, else the default tenant.
//	certificate  a field of the verified client certificate.
//
// It judges by one look at the committed state and passes on nothing but the
// tenant's id. An unknown tenant is passed on where it may be created on the
// way (writes) or simply has no data (queries).
package tenancy
