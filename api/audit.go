package api

import (
	"context"
	"maps"
	"net/http"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
)

// GetAudit answers GET /v1/admin/audit.
func (s *server) GetAudit(ctx context.Context, _ gen.GetAuditRequestObject) (gen.GetAuditResponseObject, error) {
	reports, err := s.cfg.Auditor.Reports(ctx)
	if err != nil {
		return nil, err
	}
	body := gen.AuditReport{Shards: make([]gen.ShardAudit, len(reports))}
	for i := range reports {
		r := &reports[i]
		body.Shards[i] = gen.ShardAudit{Shard: r.Shard, Drift: r.DriftKnown(), Last: passBody(&r.Last), Current: passBody(&r.Now)}
	}
	return shown(http.StatusOK, body, nil)
}

func passBody(p *ledger.AuditPass) gen.AuditPass {
	body := gen.AuditPass{
		StartedAt: p.StartedAt, EndedAt: p.EndedAt, Owners: p.Owners, Quotas: p.Quotas, Packets: p.Packets, Campaigns: p.Campaigns,
		Rows: p.Rows, Unread: p.Unread, Drift: p.Drift, Checks: map[string]int64{}, Findings: []gen.Drift{},
	}
	maps.Copy(body.Checks, p.Checks)
	for _, d := range p.Findings {
		body.Findings = append(body.Findings, gen.Drift{
			Check: d.Check, Bucket: d.Bucket, Owner: d.Owner, Subject: d.Subject, Want: d.Want, Have: d.Have,
		})
	}
	return body
}
