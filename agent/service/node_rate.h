// What the migrations that leave this node may send together, shared fairly by those that are under way. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>

namespace godwit::service {

class NodeRate : public std::enable_shared_from_this<NodeRate> {
 public:
  using Apply = std::function<void(std::uint64_t bytes_per_second)>;  // 0: no limit

  explicit NodeRate(std::uint64_t cap) : cap_(cap) {}  // 0: none

  class Share {
   public:
    ~Share();
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    void set_limit(std::uint64_t bytes_per_second);  // of its own; others get what it leaves

   private:
    friend class NodeRate;
    Share(std::shared_ptr<NodeRate> node, std::uint64_t limit, Apply apply)
        : node_(std::move(node)), limit_(limit), apply_(std::move(apply)) {}
    std::shared_ptr<NodeRate> node_;
    std::uint64_t limit_;
    Apply apply_;
    std::uint64_t told_ = 0;
    bool told_once_ = false;
  };
  void set_cap(std::uint64_t bytes_per_second);  // 0: none

  // `apply` is called at once, and whenever the share changes.
  std::unique_ptr<Share> join(std::uint64_t limit, Apply apply);

 private:
  void divide();

  std::uint64_t cap_;
  std::list<Share*> shares_;
};

}  // namespace godwit::service
