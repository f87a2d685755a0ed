console.log("te")
