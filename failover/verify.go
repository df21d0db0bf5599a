package failover

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// spelled are options whose variable has another name, or another value than the option.
var spelled = map[string]struct{ name, value string }{
	"log_bin":               {"log_bin", "ON"}, // the option names the files
	"default_time_zone":     {"time_zone", ""},
	"transaction_isolation": {"tx_isolation", ""},
}

// unverified are options that are no variables, that say where something is, that change with every start, or that controllers
// change while the server runs, which they may do before it is looked at.
var unverified = []string{
	"skip_slave_start", "relay_log", "report_user", "init_rpl_role", "extra_max_connections",
	"read_only", "sync_binlog", "innodb_flush_log_at_trx_commit", "rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled",
}

// forbidden to the account of instances: whoever has one of these writes on a server that is read-only.
var forbidden = []string{"ALL PRIVILEGES", "SUPER", "READ ONLY ADMIN", "READ_ONLY ADMIN", "BINLOG ADMIN"}

// Verify returns what AgentConfig.Verify needs: it compares a running server with the settings that it should have, and asks the
// account of instances, reached by appDSN, for its grants. It does not look for what an administrator changes later.
func Verify(settings []string, appDSN string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		has, err := variables(ctx, db)
		if err != nil {
			return err
		}
		errs := deviations(settings, has)
		wrong, err := tooMuch(ctx, appDSN)
		if err != nil {
			return err
		}
		if errs = append(errs, wrong...); len(errs) > 0 {
			return fmt.Errorf("%w: %w", ErrDeviation, errors.Join(errs...))
		}
		return nil
	}
}

// deviations compares options with variables, leaving out what the server does not know and was told only loosely.
func deviations(settings []string, has map[string]string) (errs []error) {
	want := map[string]string{} // the last one of a name wins
	loose := map[string]bool{}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		plain := strings.TrimPrefix(name, "loose_")
		want[plain], loose[plain] = value, plain != name
	}
	for name, value := range want {
		variable := name
		if other, ok := spelled[name]; ok {
			variable = other.name
			if other.value != "" {
				value = other.value
			}
		}
		got, known := has[variable]
		if slices.Contains(unverified, name) || !known && loose[name] || known && sameSetting(got, value) {
			continue
		}
		errs = append(errs, fmt.Errorf("%s is %q and must be %q", variable, got, value))
	}
	return errs
}

func sameSetting(a, b string) bool { return plainSetting(a) == plainSetting(b) }

func plainSetting(value string) string {
	switch value = strings.ToUpper(value); value {
	case "ON":
		return "1"
	case "OFF":
		return "0"
	}
	return strings.TrimSuffix(value, ".000000") // of times, some of which have fractions
}

func variables(ctx context.Context, db *sql.DB) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	defer rows.Close()
	has := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, fmt.Errorf("read the settings: %w", err)
		}
		has[name] = value
	}
	return has, rows.Err()
}

// tooMuch asks the account itself: others may not look at its grants.
func tooMuch(ctx context.Context, dsn string) (wrong []error, err error) {
	db, err := openOwn(dsn)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SHOW GRANTS")
	if err != nil {
		return nil, fmt.Errorf("read the grants of instances: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var grant string
		if err := rows.Scan(&grant); err != nil {
			return nil, fmt.Errorf("read the grants of instances: %w", err)
		}
		rights, where, _ := strings.Cut(grant, " ON ")
		for _, right := range forbidden {
			if strings.HasPrefix(where, "*.*") && strings.Contains(rights, right) {
				wrong = append(wrong, fmt.Errorf("the account of instances has %s, and so is not stopped by read_only", right))
			}
		}
	}
	return wrong, rows.Err()
}
