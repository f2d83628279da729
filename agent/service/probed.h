// Whom dry runs measure: an engine holds and tracks the processes of such a tree, so nobody moves it meanwhile. A tree
// is named by its root.
#pragma once

#include <memory>
#include <set>

#include <sys/types.h>

namespace godwit::service {

class Probed {
  using Roots = std::shared_ptr<std::set<pid_t>>;

 public:
  class Hold {  // of a tree that was free; may outlive the Probed, when a loop is taken down
   public:
    Hold(Probed& all, pid_t root) : roots_(all.roots_), root_(root) { roots_->insert(root); }
    ~Hold() { roots_->erase(root_); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    Roots roots_;
    pid_t root_;
  };

  bool contains(pid_t root) const { return roots_->contains(root); }

 private:
  Roots roots_ = std::make_shared<std::set<pid_t>>();
};

}  // namespace godwit::service
