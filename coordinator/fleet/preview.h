// A migration before there is one: what would be refused, all of it at once, and what it would cost. Both sides are
// asked; nothing is recorded, reserved or (unless a probe is asked for) tracked on either, and the journal never hears
// of it.
#pragma once

#include "coordinator/fleet/forecast.h"
#include "coordinator/simulation/trace.h"
#include "coordinator/migration/driver.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace godwit::coordinator {

struct Obstacle {
  std::string where;  // coordinator, source, destination
  Reason reason;
};

struct Preview {
  MigrationSpec spec;  // with what the request left out
  std::vector<Obstacle> obstacles;
  std::vector<std::string> notices;
  api::Surveyed surveyed;  // empty when the source could not be asked
  Forecast forecast;
};

nlohmann::json to_json(const Obstacle& obstacle);
nlohmann::json to_json(const Forecast& forecast);
nlohmann::json to_json(const Preview& preview);

class Previewer {
 public:
  Previewer(Store& store, Registry& registry, Driver& driver) : store_(store), registry_(registry), driver_(driver) {}

  net::awaitable<Preview> preview(MigrationSpec spec);

  // What the rounds to come are foretold by.
  struct Observed {
    Trace trace;
    double rate;  // bytes per second, when that is more than the forecast's
    std::string_view by;
    bool path_assumed = false;  // the forecast's rate is a guess: no reason to refuse
  };

  // Its parts. `spec` names source and workload, and for check() the destination. They throw what the agents say.
  net::awaitable<api::Surveyed> survey(MigrationSpec spec, std::chrono::milliseconds probe = {});
  net::awaitable<api::Checked> check(MigrationSpec spec, api::Surveyed surveyed);
  Forecast forecast(const MigrationSpec& spec, std::uint64_t resident_bytes) const;

 private:
  net::awaitable<void> look_at_both_sides(Preview& preview);
  std::optional<Observed> observed(const Preview& preview) const;
  void simulate_rounds(Preview& preview, Observed observed) const;
  void name(const MigrationSpec& spec, api::MigrationId* id) const;

  Store& store_;
  Registry& registry_;
  Driver& driver_;
};

}  // namespace godwit::coordinator
