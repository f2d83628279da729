// For tests: a journal that cannot take some of what is written into it, as on a full disk.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include <stdlib.h>

namespace godwit::coordinator {

class FullJournal {
 public:
  FullJournal() {
    char name[] = "/tmp/godwit-journal-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("cannot make a directory");
    directory_ = name;
  }
  ~FullJournal() { std::filesystem::remove_all(directory_); }
  FullJournal(const FullJournal&) = delete;
  FullJournal& operator=(const FullJournal&) = delete;

  std::string path() const { return directory_ + "/journal.db"; }

  // For example "INSERT ON events"; once there is a journal.
  void refuse(const std::string& what) {
    run("CREATE TRIGGER full_" + std::to_string(refused_++) + " BEFORE " + what +
        " BEGIN SELECT RAISE(FAIL, 'full'); END");
  }
  void refuse_placements() {
    for (const char* what : {"INSERT ON workloads", "UPDATE ON workloads", "DELETE ON workloads"}) refuse(what);
  }
  void make_room() {
    while (refused_ > 0) run("DROP TRIGGER full_" + std::to_string(--refused_));
  }

 private:
  void run(const std::string& sql) const { SQLite::Database(path(), SQLite::OPEN_READWRITE, 2000).exec(sql); }

  std::string directory_;
  int refused_ = 0;
};

}  // namespace godwit::coordinator
