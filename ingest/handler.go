package ingest

import "net/http"

func (i *Ingester) serve(w http.ResponseWriter, r *http.Request, tenant string) {
	http.Error(w, "not ready", http.StatusServiceUnavailable)
}
